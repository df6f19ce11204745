"""Where the rows of conversations are: in a database, by repeated and settled attempts, or in memory."""
