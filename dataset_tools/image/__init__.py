"""One picture: decoding, colours, cropping, resizing."""
