"""What is pushed to the Hub, where, and by whose rights."""
