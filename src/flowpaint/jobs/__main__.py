"""`python -m flowpaint.jobs`: a worker, as `Crew` starts them."""

from .work import main

main()
