"""Convert single pictures: decode, colours, crop, resize."""
