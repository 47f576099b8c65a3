"""How the plane is: looked at in the background, told to whoever asks."""
