"""The committed leaderboard: records/*.json (the truth) and the CSV tables made of them."""
