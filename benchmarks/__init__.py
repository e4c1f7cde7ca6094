"""One script a question: what does it cost, against a peer or a floor of the same run?"""
