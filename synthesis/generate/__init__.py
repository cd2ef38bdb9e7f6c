"""What `generate.py` makes: the request, the scenes that it asks for, the files."""
