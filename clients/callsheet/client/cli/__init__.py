"""The command `callsheet`: what the client can do, from a shell."""
