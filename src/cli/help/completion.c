/* SPDX-License-Identifier: Apache-2.0 */
/* `berth completion`: scripts for shells, made from the command table.  What only the moment knows,
 * the names of models, they ask `berth list --no-start` for. */
#include <stdio.h>
#include <string.h>

#include "cli/help/page.h"

#define MODELS_COMMAND "list --no-start 2>/dev/null"
#define HELP_BYTES     60 /* of a flag's help beside it */

/* The words of "a|b|c", or of all options for the operand OPTION, parted by spaces. */
static void put_choices(FILE *f, const char *arg)
{
    if (strcmp(arg, "OPTION") == 0) {
        for (int id = 0; id < CONFIG_N_OPTIONS; id++)
            fprintf(f, "%s%s", id ? " " : "", config_option((enum config_id)id)->key);
        return;
    }
    for (; *arg; arg++)
        fputc(*arg == '|' ? ' ' : *arg, f);
}

/* The first operand's name without brackets; "" for none. */
static void operand_of(const struct cli_command *c, char ret[64])
{
    const char *s = c->operands + (c->operands[0] == '[');
    snprintf(ret, 64, "%.*s", (int)strcspn(s, " ]"), s);
}

/* What a first operand or a value is, in one word: none, any, file, folder, model, command, or
 * `choice` and the choices. */
static void put_kind(FILE *f, const char *arg)
{
    static const char *const words[] = {
        [VALUE_NONE] = "none",     [VALUE_ANY] = "any",       [VALUE_FILE] = "file",
        [VALUE_FOLDER] = "folder", [VALUE_CHOICE] = "choice", [VALUE_MODEL] = "model"};
    if (arg && strcmp(arg, "COMMAND") == 0) {
        fputs("command", f);
    } else if (arg && (value_kind(arg) == VALUE_CHOICE || strcmp(arg, "OPTION") == 0)) {
        fputs("choice ", f);
        put_choices(f, arg);
    } else {
        fputs(words[value_kind(arg)], f);
    }
}

/* First words: commands of one word, and groups. */
static void put_first_words(FILE *f)
{
    size_t n, n_groups;
    const struct cli_command *c = cli_commands(&n);
    const struct cli_group *g = cli_groups(&n_groups);
    for (size_t i = 0; i < n; i++) {
        if (!strchr(c[i].name, ' '))
            fprintf(f, "%s ", c[i].name);
    }
    for (size_t i = 0; i < n_groups; i++)
        fprintf(f, "%s%s", g[i].name, i + 1 < n_groups ? " " : "");
}

/* Second words after first. */
static void put_second_words(FILE *f, const char *first)
{
    size_t n, len = strlen(first);
    const struct cli_command *c = cli_commands(&n);
    const char *sep = "";
    for (size_t i = 0; i < n; i++) {
        if (strncmp(c[i].name, first, len) == 0 && c[i].name[len] == ' ') {
            fprintf(f, "%s%s", sep, c[i].name + len + 1);
            sep = " ";
        }
    }
}

static bool is_first_of_its_kind(const struct cli_command *c, size_t i)
{
    size_t n = strcspn(c[i].name, " ") + 1;
    for (size_t j = 0; j < i; j++) {
        if (strncmp(c[j].name, c[i].name, n) == 0)
            return false;
    }
    return true;
}

/* fn for every first word of commands of two. */
static void each_prefix(FILE *f, void (*fn)(FILE *f, const char *first))
{
    size_t n;
    const struct cli_command *c = cli_commands(&n);
    for (size_t i = 0; i < n; i++) {
        char first[32];
        size_t len = strcspn(c[i].name, " ");
        if (!c[i].name[len] || !is_first_of_its_kind(c, i))
            continue;
        snprintf(first, sizeof(first), "%.*s", (int)len, c[i].name);
        fn(f, first);
    }
}

/* --- bash --- */

static void bash_flag_name(void *ctx, const struct page_flag *x)
{
    fprintf(ctx, " --%s", x->name);
}

static void bash_flag_kind(void *ctx, const struct page_flag *x)
{
    FILE *f = ctx;
    if (!x->arg)
        return;
    fputs("\n        ", f);
    if (x->letter)
        fprintf(f, "-%c|", x->letter);
    fprintf(f, "--%s) kind='", x->name);
    put_kind(f, x->arg);
    fputs("';;", f);
}

static void bash_kinds(FILE *f, const struct cli_command *c)
{
    char operand[64];
    operand_of(c, operand);
    fprintf(f, "    '%s') flags='", c->name);
    page_flags(c, bash_flag_name, f);
    fputs("'\n        operand='", f);
    put_kind(f, operand[0] ? operand : NULL);
    fputs("'\n        case \"$2\" in", f);
    page_flags(c, bash_flag_kind, f);
    fputs("\n        esac;;\n", f);
}

static void bash_prefix(FILE *f, const char *first)
{
    fprintf(f, "    '%s') seconds='", first);
    put_second_words(f, first);
    fputs("';;\n", f);
}

static void complete_bash(FILE *f)
{
    size_t n;
    const struct cli_command *c = cli_commands(&n);
    fputs("# bash completion for berth, made by `berth completion bash`\n\n"
          "# Sets kind (of the value of flag $2), flags and operand of command $1.\n"
          "_berth_know() {\n    kind=none flags='--help' operand=none\n    case \"$1\" in\n",
          f);
    for (size_t i = 0; i < n; i++)
        bash_kinds(f, &c[i]);
    fputs("    esac\n}\n\n"
          "# Sets seconds: the words that follow $1 in commands of two words.\n"
          "_berth_seconds() {\n    seconds=\n    case \"$1\" in\n",
          f);
    each_prefix(f, bash_prefix);
    fputs("    esac\n}\n\n"
          "# Proposes words of kind $1 that begin with $2.\n"
          "_berth_propose() {\n"
          "    local IFS=$'\\n'\n"
          "    case \"$1\" in\n"
          "    choice\\ *) COMPREPLY=($(IFS=' '; compgen -W \"${1#choice }\" -- \"$2\"));;\n"
          "    command) COMPREPLY=($(IFS=' '; compgen -W \"$firsts\" -- \"$2\"));;\n"
          "    file) compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- \"$2\"));;\n"
          "    folder) compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -d -- \"$2\"));;\n"
          "    model)\n"
          "        case \"$2\" in\n"
          "        */*|.*|~*) ;;\n"
          "        *) COMPREPLY=($(compgen -W \"$(\"$program\" " MODELS_COMMAND
          ")\" -- \"$2\"));;\n"
          "        esac\n"
          "        if [ ${#COMPREPLY[@]} -eq 0 ]; then\n"
          "            compopt -o filenames 2>/dev/null\n"
          "            COMPREPLY=($(compgen -f -X '!*.gguf' -- \"$2\") $(compgen -d -- \"$2\"))\n"
          "        fi;;\n"
          "    esac\n}\n\n"
          "_berth() {\n"
          "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n"
          "    local program=${COMP_WORDS[0]} command=${COMP_WORDS[1]} at=2 n=0 i\n"
          "    local kind flags operand seconds firsts='",
          f);
    put_first_words(f);
    fputs(
        "'\n"
        "    COMPREPLY=()\n"
        "    # --flag=value comes as three words\n"
        "    if [ \"$cur\" = = ]; then cur=; elif [ \"$prev\" = = ]; then "
        "prev=${COMP_WORDS[COMP_CWORD-2]}; fi\n"
        "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
        "        COMPREPLY=($(compgen -W \"$firsts --help --version\" -- \"$cur\"))\n"
        "        return\n"
        "    fi\n"
        "    _berth_seconds \"$command\"\n"
        "    if [ \"$COMP_CWORD\" -gt 2 ]; then\n"
        "        case \" $seconds \" in *\" ${COMP_WORDS[2]} \"*) command=\"$command "
        "${COMP_WORDS[2]}\" at=3;; esac\n"
        "    fi\n"
        "    _berth_know \"$command\" \"$prev\"\n"
        "    if [ \"$kind\" != none ]; then _berth_propose \"$kind\" \"$cur\"; return; fi\n"
        "    case \"$cur\" in -*) COMPREPLY=($(compgen -W \"$flags\" -- \"$cur\")); return;; esac\n"
        "    # an operand: which one, and not a flag's value\n"
        "    for ((i = at; i < COMP_CWORD; i++)); do\n"
        "        case \"${COMP_WORDS[i]}\" in\n"
        "        -*|=) ;;\n"
        "        *) _berth_know \"$command\" \"${COMP_WORDS[i-1]}\"; [ \"$kind\" = none ] && "
        "n=$((n + 1));;\n"
        "        esac\n"
        "    done\n"
        "    [ \"$n\" -eq 0 ] && _berth_propose \"$operand\" \"$cur\"\n"
        "    if [ \"$COMP_CWORD\" -eq 2 ] && [ -n \"$seconds\" ]; then\n"
        "        COMPREPLY+=($(compgen -W \"$seconds\" -- \"$cur\"))\n"
        "    fi\n"
        "}\n\n"
        "complete -F _berth berth\n",
        f);
}

/* --- zsh --- */

/* Help as short as fits beside a flag, with what a quoted spec would read as its own escaped. */
static void put_short(FILE *f, const char *help, const char *special)
{
    size_t n = strcspn(help, ";");
    if (n > HELP_BYTES) {
        n = HELP_BYTES;
        while (n > 0 && help[n] != ' ')
            n--;
    }
    for (size_t i = 0; i < n; i++) {
        if (help[i] == '\'')
            fputs("'\\''", f);
        else if (strchr(special, help[i]))
            fprintf(f, "\\%c", help[i]);
        else
            fputc(help[i], f);
    }
}

/* What completes a value, after its name and a colon. */
static void zsh_completer(FILE *f, const char *arg)
{
    if (strcmp(arg, "COMMAND") == 0) {
        fputs("_berth_commands", f);
    } else if (value_kind(arg) == VALUE_CHOICE || strcmp(arg, "OPTION") == 0) {
        fputc('(', f);
        put_choices(f, arg);
        fputc(')', f);
    } else if (value_kind(arg) == VALUE_FILE) {
        fputs("_files", f);
    } else if (value_kind(arg) == VALUE_FOLDER) {
        fputs("_files -/", f);
    } else {
        fputs(value_kind(arg) == VALUE_MODEL ? "_berth_models" : " ", f);
    }
}

/* ":name:completer" */
static void zsh_value(FILE *f, const char *arg)
{
    fputc(':', f);
    put_short(f, value_kind(arg) == VALUE_CHOICE ? "value" : arg, ":[]\\");
    fputc(':', f);
    zsh_completer(f, arg);
}

static void zsh_spec(FILE *f, const struct page_flag *x, const char *before, const char *dashes,
                     const char *name)
{
    fprintf(f, " \\\n            '%s%s%s%s[", before, dashes, name, x->arg && dashes[1] ? "=" : "");
    put_short(f, x->help, ":[]\\");
    fputc(']', f);
    if (x->arg)
        zsh_value(f, x->arg);
    fputc('\'', f);
}

static void zsh_flag(void *ctx, const struct page_flag *x)
{
    char before[96] = "", letter[2] = {x->letter, '\0'};
    if (x->how & CLI_REPEAT)
        snprintf(before, sizeof(before), "*");
    else if (x->letter)
        snprintf(before, sizeof(before), "(-%c --%s)", x->letter, x->name);
    zsh_spec(ctx, x, before, "--", x->name);
    if (x->letter)
        zsh_spec(ctx, x, before, "-", letter);
}

static void zsh_command(FILE *f, const struct cli_command *c)
{
    char operand[64];
    operand_of(c, operand);
    fprintf(f, "    '%s')\n        _arguments -s", c->name);
    page_flags(c, zsh_flag, f);
    if (operand[0]) {
        fprintf(f, " \\\n            '1%s", c->min_operands ? "" : ":");
        zsh_value(f, operand);
        fputc('\'', f);
    }
    if (c->max_operands > 1)
        fputs(" \\\n            '*: : '", f);
    fputs("\n        ;;\n", f);
}

static void zsh_prefix(FILE *f, const char *first)
{
    fprintf(f, "        %s) seconds=(", first);
    put_second_words(f, first);
    fputs(");;\n", f);
}

static void complete_zsh(FILE *f)
{
    size_t n, n_groups;
    const struct cli_command *c = cli_commands(&n);
    const struct cli_group *g = cli_groups(&n_groups);
    fputs("#compdef berth\n# zsh completion for berth, made by `berth completion zsh`\n\n"
          "_berth_models() {\n"
          "    local -a names\n"
          "    names=(${(f)\"$(_call_program models berth " MODELS_COMMAND ")\"})\n"
          "    _alternative 'names:model:compadd -a names' 'files:file:_files -g \"*.gguf\"'\n"
          "}\n\n"
          "_berth_commands() {\n    local -a commands\n    commands=(\n",
          f);
    for (size_t i = 0; i < n; i++) {
        if (strchr(c[i].name, ' '))
            continue;
        fprintf(f, "        '%s:", c[i].name);
        put_short(f, c[i].summary, ":\\");
        fputs("'\n", f);
    }
    for (size_t i = 0; i < n_groups; i++) {
        fprintf(f, "        '%s:", g[i].name);
        put_short(f, g[i].summary, ":\\");
        fputs("'\n", f);
    }
    fputs("    )\n    _describe -t commands command commands\n}\n\n"
          "_berth() {\n"
          "    local curcontext=\"$curcontext\" state line name\n"
          "    local -a seconds\n"
          "    _arguments -C '1: :_berth_commands' '*:: :->rest' && return\n"
          "    [[ $state == rest ]] || return\n"
          "    name=${words[1]}\n"
          "    case $name in\n",
          f);
    each_prefix(f, zsh_prefix);
    fputs("    esac\n"
          "    if (( ${#seconds} && CURRENT > 2 && ${seconds[(Ie)${words[2]}]} )); then\n"
          "        name=\"$name ${words[2]}\"\n"
          "        shift words\n"
          "        (( CURRENT-- ))\n"
          "    elif (( ${#seconds} && CURRENT == 2 )); then\n"
          "        compadd -a seconds\n"
          "    fi\n"
          "    case $name in\n",
          f);
    for (size_t i = 0; i < n; i++)
        zsh_command(f, &c[i]);
    fputs("    esac\n}\n\n"
          "# as a function of its own file, and when the script is read with `source`\n"
          "if [[ $funcstack[1] == _berth ]]; then _berth \"$@\"; else compdef _berth berth; fi\n",
          f);
}

/* --- fish --- */

struct fish {
    FILE *f;
    const char *condition;
};

static void fish_values(FILE *f, const char *arg)
{
    enum value_kind kind = value_kind(arg);
    if (kind == VALUE_FILE) {
        fputs(" -r -F", f);
    } else if (kind == VALUE_FOLDER) {
        fputs(" -x -a '(__fish_complete_directories)'", f);
    } else if (kind == VALUE_MODEL) {
        fputs(" -k -a '(berth " MODELS_COMMAND ")'", f);
    } else if (kind == VALUE_CHOICE || strcmp(arg, "OPTION") == 0) {
        fputs(" -x -a '", f);
        put_choices(f, arg);
        fputc('\'', f);
    } else {
        fputs(" -x", f);
    }
}

static void fish_quote(FILE *f, const char *help)
{
    fputs(" -d '", f);
    for (size_t i = 0, n = strcspn(help, ";"); i < n; i++)
        fprintf(f, "%s%c", help[i] == '\'' || help[i] == '\\' ? "\\" : "", help[i]);
    fputs("'\n", f);
}

static void fish_flag(void *ctx, const struct page_flag *x)
{
    const struct fish *to = ctx;
    fprintf(to->f, "complete -c berth -n '%s' -l %s", to->condition, x->name);
    if (x->letter)
        fprintf(to->f, " -s %c", x->letter);
    if (x->arg)
        fish_values(to->f, x->arg);
    fish_quote(to->f, x->help);
}

static void fish_command(FILE *f, const struct cli_command *c)
{
    char operand[64], condition[160];
    const char *second = strchr(c->name, ' ');
    int n = (int)strcspn(c->name, " ");
    operand_of(c, operand);
    snprintf(condition, sizeof(condition), "__fish_seen_subcommand_from %.*s%s%s", n, c->name,
             second ? "; and __fish_seen_subcommand_from" : "", second ? second : "");
    struct fish to = {f, condition};
    if (second) {
        fprintf(f, "complete -c berth -n '__fish_seen_subcommand_from %.*s' -a '%s'", n, c->name,
                second + 1);
        fish_quote(f, c->summary);
    } else {
        fprintf(f, "complete -c berth -n __fish_use_subcommand -a %s", c->name);
        fish_quote(f, c->summary);
    }
    page_flags(c, fish_flag, &to);
    if (operand[0] && value_kind(operand) != VALUE_ANY) {
        fprintf(f, "complete -c berth -n '%s'", condition);
        fish_values(f, operand);
        fputc('\n', f);
    }
    if (value_kind(operand) == VALUE_MODEL) /* a path is one too */
        fprintf(f, "complete -c berth -n '%s' -F\n", condition);
}

static void complete_fish(FILE *f)
{
    size_t n, n_groups;
    const struct cli_command *c = cli_commands(&n);
    const struct cli_group *g = cli_groups(&n_groups);
    fputs("# fish completion for berth, made by `berth completion fish`\n"
          "complete -c berth -f\n",
          f);
    for (size_t i = 0; i < n_groups; i++) {
        fprintf(f, "complete -c berth -n __fish_use_subcommand -a %s", g[i].name);
        fish_quote(f, g[i].summary);
    }
    for (size_t i = 0; i < n; i++)
        fish_command(f, &c[i]);
}

int cmd_completion(const struct cli_args *a)
{
    static const struct {
        const char *shell;
        void (*print)(FILE *f);
    } shells[] = {{"bash", complete_bash}, {"zsh", complete_zsh}, {"fish", complete_fish}};
    struct err err = ERR_INIT;
    for (size_t i = 0; i < ARRAY_LEN(shells); i++) {
        if (strcmp(a->operands[0], shells[i].shell) == 0) {
            shells[i].print(stdout);
            return CLI_OK;
        }
    }
    err_set(&err, E_INVALID, "there is no completion for '%.64s'; there is for bash, zsh and fish",
            a->operands[0]);
    cli_fail(&err);
    return CLI_USAGE;
}
