"""Conversations, `/api/v1/sessions`: what people and models said, while it is used."""
