"""How good is a language model on contigs that it has never read, and what does its memory do there?"""
