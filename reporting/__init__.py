"""Reports of runs: what a run left (runs), its curves and pictures, and the page that they are put on (page)."""
