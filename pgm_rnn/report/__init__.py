"""What a person reads in a terminal or keeps in a file."""
