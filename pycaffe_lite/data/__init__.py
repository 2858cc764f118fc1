"""Where data comes from: key/value databases, the records in them, and the idx files of MNIST."""
