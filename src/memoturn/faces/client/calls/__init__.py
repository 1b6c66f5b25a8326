"""What each method of the client asks for, and what it makes of the answer: pure functions, by noun."""
