"""Rooms over WebSocket: who is in one is told what happens there, in order."""
