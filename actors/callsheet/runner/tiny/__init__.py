"""The built-in models: real geometry, tiny and random weights, made where they are first used."""
