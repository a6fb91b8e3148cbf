"""What a Hugging Face Space runs: the page of metad2a, with the search behind it."""

from metad2a.page import Backend, build_page, launch
from metad2a.training.train import train

if __name__ == "__main__":
    from search import check, refine

    launch(build_page(Backend(check, refine, train)))
