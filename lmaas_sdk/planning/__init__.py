"""What a run will cost, and what it would be like: estimates before it, and simulations in its place."""
