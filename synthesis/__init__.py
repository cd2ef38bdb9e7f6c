"""What one does with a trained generator."""
