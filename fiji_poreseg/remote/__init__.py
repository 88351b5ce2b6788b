"""One command for an ImageJ in another process: asked for and answered in a folder of files."""
