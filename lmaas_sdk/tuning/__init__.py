"""Black-box tuning: the subspace that is searched, the search, and what it found."""
