"""What has landed is encoded, proved and packed."""
