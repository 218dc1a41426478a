"""What each action does, by groups; dispatch/action.py calls them and nothing else does."""
