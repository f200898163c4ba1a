/* SPDX-License-Identifier: Apache-2.0 */
/* Options: one table (config.def) from which flags, environment, file, help and checks come.
 *
 * Precedence: flag, then environment (BERTH_*; empty is as good as unset), then file, then default.
 * The file is the one that --config or BERTH_CONFIG names, else $XDG_CONFIG_HOME/berth/config
 * (~/.config when unset), else /etc/berth/config: lines `key = value`, `#` begins a comment.  Owns
 * the only getenv of the program but for sd.c.  Used at start, by one thread. */
#ifndef LIB_SYS_CONFIG_H
#define LIB_SYS_CONFIG_H

#include "lib/base/buf.h"

enum config_type {
    CONFIG_STRING,
    CONFIG_NUMBER,
    CONFIG_SIZE,
    CONFIG_CHOICE,
    CONFIG_SWITCH,
    CONFIG_DURATION, /* seconds; CONFIG_FOREVER for "-1" */
    CONFIG_SECRET    /* a string that no flag may give and nothing prints */
};

#define CONFIG_FOREVER UINT64_MAX

enum config_id {
#define OPTION(field, key, type, min, max, dflt, arg, choices, help) CONFIG_##field,
#define ALIAS(name, key)
#define ENV(variable, key, value)
#include "lib/sys/config.def"
#undef OPTION
#undef ALIAS
#undef ENV
    CONFIG_N_OPTIONS
};

struct config_option {
    const char *key;
    enum config_type type;
    uint64_t min, max;
    const char *dflt, *arg, *choices, *help;
};

/* The row of an id; never NULL. */
const struct config_option *config_option(enum config_id id);
/* The id of a key or alias, or CONFIG_N_OPTIONS. */
enum config_id config_find(const char *key);
/* "BERTH_MAX_MODEL_LEN" of "max-model-len". */
void config_env_name(const char *key, char ret[64]);

enum config_source { CONFIG_FROM_DEFAULT, CONFIG_FROM_FILE, CONFIG_FROM_ENV, CONFIG_FROM_FLAG };

struct config_value {
    char *text;      /* owned; as given, never NULL after config_load */
    uint64_t number; /* NUMBER, SIZE, DURATION; index of the choice for CHOICE; 0 or 1 for SWITCH */
    enum config_source source;
    unsigned line;        /* of the file, when from there */
    const char *alias;    /* static; the other name that the environment used, or NULL */
    const char *variable; /* static; another program's that it was taken from, or NULL */
};

struct config {
    struct config_value values[CONFIG_N_OPTIONS];
    char *file; /* owned; the file that was read, NULL: none */
};

/* One sentence about a mistake that does not end what is being done. */
typedef void (*config_note_fn)(void *ctx, const char *sentence);

/* Defaults alone (models-dir is empty), for what reads no option and must work beside a broken
 * file. Release with config_release. */
void config_defaults(struct config *c);
/* Defaults, then file, then environment, of the options whose bit (1ull << id) is in want; the
 * others keep their defaults, so that a mistaken value stops only the commands that read it.  An
 * unknown name in the file stops all.  file: given by --config, or NULL.  E_INVALID with a sentence
 * that names where the value came from; E_NOTFOUND, E_IO when the file cannot be read.  Release
 * with config_release, also after a failure. */
int config_load(struct config *c, uint64_t want, const char *file, struct err *err) MUST_USE;
/* Appends the path of the file that config_load would read; *ret_there false: none of the usual
 * ones exists, and this is the one to make.  A chosen one (chosen, else BERTH_CONFIG) is not looked
 * for. */
int config_path(const char *chosen, struct buf *out, bool *ret_there, struct err *err) MUST_USE;
/* Reads a file alone and tells fn every mistake in it.  Negative: it cannot be read. */
int config_check(const char *file, config_note_fn fn, void *ctx, struct err *err) MUST_USE;
/* Tells fn of each BERTH_ variable that no option has, and returns how many there are. */
int config_unknown_env(config_note_fn fn, void *ctx);
/* Appends where a value came from: "default", "PATH:LINE", "BERTH_PORT" or "--port". */
void config_origin(const struct config *c, enum config_id id, struct buf *out);
/* The variables of other programs that set an option (ENV rows), for help: the i-th of id, or NULL.
 */
const char *config_foreign_env(enum config_id id, unsigned i);
/* What a variable that a user's own file names says (${NAME} in a Compose file); NULL: unset. */
const char *config_user_env(const char *name);
/* The socket by which docker tells its plugin that the user wants it to end; NULL: none. */
const char *config_docker_socket(void);
/* HTTP_PROXY where http_proxy is not set: what libcurl leaves unread, because a client of a CGI
 * program could set it; berth is none.  NULL: none. */
const char *config_http_proxy(void);
/* Whether plain HTTP goes by a proxy, under either name. */
bool config_has_http_proxy(void);
/* Whether colours are welcome on a terminal: NO_COLOR (https://no-color.org) is unset or empty,
 * TERM names a terminal that is not "dumb". */
bool config_wants_color(void);
/* Whether the terminal moves its cursor: TERM names one that is not "dumb". */
bool config_can_edit_lines(void);
/* Sets one option from a flag. */
int config_set_flag(struct config *c, enum config_id id, const char *text,
                    struct err *err) MUST_USE;
void config_release(struct config *c);

static inline const char *config_str(const struct config *c, enum config_id id)
{
    return c->values[id].text;
}
static inline uint32_t config_u32(const struct config *c, enum config_id id)
{
    return (uint32_t)c->values[id].number;
}
static inline uint64_t config_u64(const struct config *c, enum config_id id)
{
    return c->values[id].number;
}

/* One value as the table's type says, without a config: for flags of single commands that share
 * these types. */
int config_parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *ret,
                        struct err *err) MUST_USE;
int config_parse_size(const char *text, uint64_t min, uint64_t max, uint64_t *ret,
                      struct err *err) MUST_USE;
/* Seconds: a plain number of them, or numbers with units, as in "90", "5m", "1h30m", "2d"; "-1" is
 * CONFIG_FOREVER. */
int config_parse_duration(const char *text, uint64_t min, uint64_t max, uint64_t *ret,
                          struct err *err) MUST_USE;

/* Where berth keeps its log and other state: $XDG_STATE_HOME/berth or ~/.local/state/berth; nothing
 * is created. E_NOTFOUND when neither variable is set. */
int config_state_dir(struct buf *out, struct err *err) MUST_USE;
/* Where the store is when nobody says. */
int config_store_dir(struct buf *out, struct err *err) MUST_USE;
/* Where Docker keeps its config.json: the option docker-config, else $DOCKER_CONFIG, else
 * ~/.docker; nothing is appended when there is none of these. */
int config_docker_dir(const struct config *c, struct buf *out, struct err *err) MUST_USE;
/* The folder of the running program's file, without a final slash. */
int config_program_dir(struct buf *out, struct err *err) MUST_USE;

#endif
