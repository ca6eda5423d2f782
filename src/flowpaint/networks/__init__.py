"""Networks of our own, and those of others rebuilt layer by layer so that their published weights fit."""
