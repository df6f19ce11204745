"""`python -m sessions` is the command `agent-sessions`."""

from sessions._command.main import main

raise SystemExit(main())
