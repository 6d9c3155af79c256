"""What comes in: files land durably and are committed before their sender is told so."""
