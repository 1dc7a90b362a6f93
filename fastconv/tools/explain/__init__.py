"""See a convolution: pages on which a window moves over a grid of numbers and every sum is written out.

The files, from the bottom up: `calculation` (which elements each output is made of), `numerals` (numbers as text),
`picture` (what a page is told, as JSON), `page` (the HTML document, of the files beside it), `explanation` (the object
that callers get), `call` and `stack` (the public functions), `command` (the command line).
"""
