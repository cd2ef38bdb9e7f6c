"""Find faces in pictures and cut them out."""
