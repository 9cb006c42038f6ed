"""What programs show while they work: the progress bar."""
