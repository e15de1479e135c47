"""The console: what people type and see. It uses the client library, and neither the server nor the options.

commands.py      a typed line -> a command; the table of commands
conversation.py  runs a chat: commands and events -> results
current_group.py  which groups we are in, and which is the current one
lasting.py       the same while the server is away: with an outbox, and an end that never waits
early_lines.py   messages that are typed before the chat is open
line_reader.py   reads typed lines while commands are carried out
refusals.py      errors of commands that cannot be carried out
unfinished.py    what is said of commands that have no answer at the end
results.py       the results of commands, and what a renderer is
wordings.py      results -> lines, in the two wordings for people
outbox_words.py  the words for what becomes of messages in the outbox
members_words.py  the words for changes of the members of private groups
phrases.py       the phrases of the two wordings
json_lines.py    results -> lines of JSON, for programs
styling.py       lines, and their styles
screen.py        reads and prints lines, in pipes and at simple terminals
prompt.py        the prompt at a real terminal, in a thread of its own
editor.py        the line that is typed there: keys, completion, pastes, history
"""
