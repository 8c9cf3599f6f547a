"""How it is asked: the HTTP service, mail, the command line, settings. The only wiring."""
