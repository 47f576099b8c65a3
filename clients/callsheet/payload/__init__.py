"""PayloadCMS over REST: its media collection, asked before anything is uploaded."""
