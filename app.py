"""What a Hugging Face Space runs: the page of metad2a."""

from metad2a.page import build_page, launch

if __name__ == "__main__":
    launch(build_page())
