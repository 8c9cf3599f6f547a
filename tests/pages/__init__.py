"""The pages, as browsers and as scripts see them."""
