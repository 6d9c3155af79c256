"""What goes out: instances and frames, as received or in the form a receiver can read."""
