"""What turns texts into vectors: a model on this machine, or any service that speaks OpenAI's protocol."""
