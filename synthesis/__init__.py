"""Uses of a trained generator: draw, blend, project, toonify."""
