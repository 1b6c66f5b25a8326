"""What the operations answer, for every face alike: a module for each noun."""
