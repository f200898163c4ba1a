/* SPDX-License-Identifier: Apache-2.0 */
/* What a line of a conversation is: a message, or a command that begins with a slash.  Pure. */
#ifndef CLI_CHAT_COMMAND_H
#define CLI_CHAT_COMMAND_H

#include "lib/base/buf.h"
#include "lib/base/str.h"

enum command_id {
    COMMAND_MESSAGE, /* it is none */
    COMMAND_UNKNOWN,
    COMMAND_HELP,
    COMMAND_BYE,
    COMMAND_CLEAR,
    COMMAND_UNDO,
    COMMAND_RETRY,
    COMMAND_SET_SYSTEM,
    COMMAND_SET_PARAMETER,
    COMMAND_SET_VERBOSE,
    COMMAND_SET_QUIET,
    COMMAND_SET_HISTORY,
    COMMAND_SET_NOHISTORY,
    COMMAND_SET_MARKDOWN,
    COMMAND_SET_NOMARKDOWN,
    COMMAND_SET, /* alone: the list of what can be set */
    COMMAND_SHOW,
    COMMAND_SHOW_INFO,
    COMMAND_SHOW_SYSTEM,
    COMMAND_SHOW_PARAMETERS,
    COMMAND_SHOW_MESSAGES,
    COMMAND_SAVE,
    COMMAND_LOAD,
};

struct command {
    enum command_id id;
    struct str rest; /* what follows the command's words, without white space around it; borrowed */
};

/* A line without its newline.  UNKNOWN: rest is the command as given, its first two words at most.
 * E_INVALID when a command lacks what it needs, or gets what it does not take. */
int command_parse(struct str line, struct command *ret, struct err *err) MUST_USE;
/* The command nearest to an unknown one, as the list writes it (of the program), or NULL. */
const char *command_near(struct str text);
/* Whether the text opens a """ that it does not close: the next line belongs to it. */
bool command_is_open(struct str text);
/* Without the """ around it, or with also_single a ", and the white space around those. */
struct str command_unquote(struct str text, bool also_single);
/* Every command, one line each; prefix "set" or "show": those alone, NULL: all. */
void command_help(const char *prefix, struct buf *out);

#endif
