"""What keeps an archive sound: verification, deletion, dictionaries, a catalog made anew."""
