"""Names -> configured methods."""
