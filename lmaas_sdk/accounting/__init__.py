"""Money, prices and budgets."""
