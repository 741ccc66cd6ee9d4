"""The user's choices: validation, infotext, chains and what helps to choose."""
