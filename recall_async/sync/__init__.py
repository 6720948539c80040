"""Compare the bots that events should have with those they have, and send the requests that remove the difference."""
