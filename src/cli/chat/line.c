/* SPDX-License-Identifier: Apache-2.0 */
/* Implements line.h over libedit.so.2, found at the first call: its constants are its ABI and come
 * from its header, its functions from dlsym.
 *
 * libedit reads through read_char below, so that waiting for a key is waiting for signals too:
 * Ctrl-C ends the line, Ctrl-Z stops the process with the terminal as it was, a new window size is
 * taken over. */
#include "cli/chat/line.h"

#include <dlfcn.h>
#include <errno.h>
#include <histedit.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>
#include <wchar.h>

#include "cli/chat/interrupt.h"
#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "lib/codec/utf8.h"

#define HISTORY_LINES 1000
#define PASTE_MAX     (1u << 20) /* characters at once */
#define PASTE_ON      "\033[?2004h"
#define PASTE_OFF     "\033[?2004l"

struct edit_api {
    EditLine *(*init)(const char *name, FILE *in, FILE *out, FILE *err);
    void (*end)(EditLine *el);
    int (*wset)(EditLine *el, int op, ...);
    int (*wget)(EditLine *el, int op, ...);
    const wchar_t *(*wgets)(EditLine *el, int *n);
    int (*wgetc)(EditLine *el, wchar_t *c);
    int (*winsertstr)(EditLine *el, const wchar_t *s);
    const LineInfoW *(*wline)(EditLine *el);
    void (*resize)(EditLine *el);
    HistoryW *(*history_winit)(void);
    void (*history_wend)(HistoryW *h);
    int (*history_w)(HistoryW *h, HistEventW *ev, int op, ...);
};

struct line_reader {
    EditLine *el; /* NULL: plain lines */
    HistoryW *history;
    bool has_color, is_hinted, is_gone, is_interrupted, had_text;
    const wchar_t *prompt;
    const char *hint;
    char reason[256];
    struct winsize window; /* the line is drawn for */
    struct buf pending;    /* plain: what was read past the line */
};

static struct edit_api edit;
static struct termios before; /* of the terminal, when the first reader was opened */
static volatile sig_atomic_t is_reading;
static volatile sig_atomic_t must_stop, must_resize, must_redraw;

static int load_edit(char *why, size_t size)
{
    static const struct {
        const char *name;
        void **to;
    } wanted[] = {
        {"el_init", (void **)&edit.init},
        {"el_end", (void **)&edit.end},
        {"el_wset", (void **)&edit.wset},
        {"el_wget", (void **)&edit.wget},
        {"el_wgets", (void **)&edit.wgets},
        {"el_wgetc", (void **)&edit.wgetc},
        {"el_winsertstr", (void **)&edit.winsertstr},
        {"el_wline", (void **)&edit.wline},
        {"el_resize", (void **)&edit.resize},
        {"history_winit", (void **)&edit.history_winit},
        {"history_wend", (void **)&edit.history_wend},
        {"history_w", (void **)&edit.history_w},
    };
    void *lib = dlopen("libedit.so.2", RTLD_NOW | RTLD_LOCAL);
    if (!lib) {
        snprintf(why, size, "lines cannot be edited: install libedit2");
        return -1;
    }
    for (size_t i = 0; i < ARRAY_LEN(wanted); i++) {
        *wanted[i].to = dlsym(lib, wanted[i].name);
        if (!*wanted[i].to) {
            snprintf(why, size, "lines cannot be edited: libedit has no %s", wanted[i].name);
            return -1;
        }
    }
    return 0;
}

static void put(const char *s)
{
    ssize_t done = write(STDOUT_FILENO, s, strlen(s));
    (void)done;
}

void line_restore_terminal(void)
{
    if (!is_reading)
        return;
    put(PASTE_OFF "\033[0m\r\n");
    tcsetattr(STDIN_FILENO, TCSANOW, &before);
}

static struct line_reader *reader_of(EditLine *el)
{
    void *r = NULL;
    edit.wget(el, EL_CLIENTDATA, &r);
    return r;
}

static wchar_t *prompt_of(EditLine *el)
{
    return (wchar_t *)reader_of(el)->prompt;
}

static void show_hint(struct line_reader *r)
{
    struct winsize w;
    size_t n = r->hint ? strlen(r->hint) : 0;
    struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
    if (!n || poll(&p, 1, 0) > 0 || /* in the middle of a key's bytes, or of a paste */
        !r->has_color || r->is_hinted || ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) < 0 ||
        (w.ws_col && n + wcslen(r->prompt) >= w.ws_col))
        return;
    char text[256];
    snprintf(text, sizeof(text), "\033[90m%s\033[0m\033[%zuD", r->hint, n);
    put(text);
    r->is_hinted = true;
}

static void hide_hint(struct line_reader *r)
{
    if (r->is_hinted)
        put("\033[K");
    r->is_hinted = false;
}

/* Draws for the window as it is from now on; false: that is what was done before. */
static bool take_window(struct line_reader *r)
{
    struct winsize w = {0};
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) < 0)
        return false;
    bool is_new = w.ws_col != r->window.ws_col || w.ws_row != r->window.ws_row;
    r->window = w;
    edit.resize(r->el);
    return is_new;
}

/* Ctrl-Z: the terminal as it was, until somebody continues the process. */
static void stop_here(struct line_reader *r)
{
    struct termios ours;
    struct sigaction dfl = {.sa_handler = SIG_DFL}, old;
    sigset_t both, mask;
    tcgetattr(STDIN_FILENO, &ours);
    line_restore_terminal();
    sigaction(SIGTSTP, &dfl, &old);
    sigemptyset(&both);
    sigaddset(&both, SIGTSTP);
    sigaddset(&both, SIGCONT); /* handled here, or it would draw the line once more */
    raise(SIGTSTP);
    sigprocmask(SIG_UNBLOCK, &both, &mask); /* stops here */
    sigprocmask(SIG_SETMASK, &mask, NULL);
    sigaction(SIGTSTP, &old, NULL);
    tcsetattr(STDIN_FILENO, TCSADRAIN, &ours);
    put(PASTE_ON);
    r->is_hinted = false;
    must_redraw = 1; /* from where the cursor is now: what stood above it is the shell's */
    must_resize = 0;
    take_window(r); /* that it changed meanwhile nobody told a stopped process */
}

static void redraw(EditLine *el, struct line_reader *r)
{
    edit.wset(el, EL_REFRESH);
    const LineInfoW *line = edit.wline(el);
    if (line->lastchar == line->buffer)
        show_hint(r);
}

/* How many rows below the prompt's the cursor stands on a terminal of so many columns. */
static unsigned cursor_row(EditLine *el, const struct line_reader *r, unsigned columns)
{
    const LineInfoW *line = edit.wline(el);
    unsigned row = 0, column = (unsigned)wcslen(r->prompt);
    for (const wchar_t *c = line->buffer; c < line->cursor; c++) {
        int width = *c == L'\t' ? (int)(8 - column % 8) : wcwidth(*c);
        unsigned n = width < 0 ? 2 : (unsigned)width; /* ^X */
        bool ends = *c == L'\n' || column + n > columns;
        row += ends;
        column = *c == L'\n' ? 0 : ends ? n : column + n;
        if (column == columns && *c != L'\n') {
            row++;
            column = 0;
        }
    }
    return row;
}

/* A new window size.  Terminals break long lines anew by themselves, which libedit does not know:
 * the line is drawn again from where its prompt stands now. */
static void resize(EditLine *el, struct line_reader *r)
{
    char up[16];
    if (!take_window(r) || r->window.ws_col == 0)
        return;
    hide_hint(r);
    unsigned row = cursor_row(el, r, r->window.ws_col);
    snprintf(up, sizeof(up), "\033[%uA", MIN_OF(row, (unsigned)r->window.ws_row));
    put(row ? up : "");
    put("\r\033[J");
    redraw(el, r);
}

/* What signals asked for.  False: the line is over. */
static bool attend(EditLine *el, struct line_reader *r)
{
    if (r->is_interrupted || r->is_gone)
        return false;
    if (must_stop) {
        must_stop = 0;
        stop_here(r);
    }
    if (must_resize) {
        must_resize = 0;
        resize(el, r);
    }
    if (must_redraw) {
        must_redraw = 0;
        redraw(el, r);
    }
    if (!interrupt_take())
        return true;
    const LineInfoW *line = edit.wline(el);
    r->had_text = line->lastchar > line->buffer;
    r->is_interrupted = true;
    return false;
}

/* A byte of the terminal; -1: the line is over. */
static int read_byte(EditLine *el, struct line_reader *r, char *ret)
{
    sigset_t none;
    sigemptyset(&none);
    for (;;) {
        struct pollfd p[] = {{.fd = STDIN_FILENO, .events = POLLIN},
                             {.fd = interrupt_fd(), .events = POLLIN}};
        if (!attend(el, r))
            return -1;
        if (ppoll(p, ARRAY_LEN(p), NULL, &none) < 0 && errno != EINTR)
            return -1;
        if (!p[0].revents)
            continue;
        ssize_t n = read(STDIN_FILENO, ret, 1);
        if (n == 1)
            return 1;
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        r->is_gone = true;
        return -1;
    }
}

/* One character for libedit. */
static int read_char(EditLine *el, wchar_t *ret)
{
    struct line_reader *r = reader_of(el);
    const LineInfoW *line = edit.wline(el);
    if (line->lastchar == line->buffer)
        show_hint(r);
    char bytes[UTF8_MAX_BYTES];
    size_t n = 0, len;
    uint32_t cp;
    for (;;) {
        int rc = read_byte(el, r, bytes + n);
        hide_hint(r);
        if (rc < 0) {
            errno = EINTR;
            return -1;
        }
        n++;
        enum utf8_state state = utf8_next(bytes, n, &cp, &len);
        if (state == UTF8_OK) {
            *ret = (wchar_t)cp;
            return 1;
        }
        if (state == UTF8_BAD) { /* the last byte may begin another */
            bytes[0] = bytes[n - 1];
            n = len < n ? 1 : 0;
        }
    }
}

/* Between the brackets of a paste newlines are text. */
static unsigned char paste(EditLine *el, int ch)
{
    static const wchar_t end[] = L"\033[201~";
    const size_t end_len = ARRAY_LEN(end) - 1;
    struct err err = ERR_INIT;
    (void)ch;
    wchar_t *text = mem_try_alloc(PASTE_MAX + 1, sizeof(wchar_t), &err);
    size_t n = 0;
    wchar_t c;
    while (text && edit.wgetc(el, &c) == 1) {
        if (n == PASTE_MAX) { /* no more is kept, but the end is still looked for */
            n--;
            wmemmove(text + n - end_len, text + n + 1 - end_len, end_len);
        }
        text[n++] = c == '\r' ? L'\n' : c;
        if (n >= end_len && wmemcmp(text + n - end_len, end, end_len) == 0) {
            n -= end_len;
            break;
        }
        if (c < ' ' && c != '\n' && c != '\r' && c != '\t' && c != '\033')
            n--; /* nothing that would be a command, or drive the terminal */
    }
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        if (text[i] != L'\033')
            text[kept++] = text[i];
    }
    if (text) {
        text[kept] = L'\0';
        edit.winsertstr(el, text);
    }
    mem_free(text);
    return CC_REFRESH;
}

static void bind_keys(EditLine *el)
{
    static const wchar_t *const keys[][2] = {
        {L"\033[A", L"ed-prev-history"},      {L"\033OA", L"ed-prev-history"},
        {L"\033[B", L"ed-next-history"},      {L"\033OB", L"ed-next-history"},
        {L"\033[C", L"ed-next-char"},         {L"\033OC", L"ed-next-char"},
        {L"\033[D", L"ed-prev-char"},         {L"\033OD", L"ed-prev-char"},
        {L"\033[H", L"ed-move-to-beg"},       {L"\033[F", L"ed-move-to-end"},
        {L"\033[1~", L"ed-move-to-beg"},      {L"\033[4~", L"ed-move-to-end"},
        {L"\033[3~", L"ed-delete-next-char"}, {L"\033[1;5C", L"em-next-word"},
        {L"\033[1;5D", L"ed-prev-word"},      {L"^W", L"ed-delete-prev-word"},
        {L"^U", L"vi-kill-line-prev"},        {L"^R", L"em-inc-search-prev"},
        {L"\033[200~", L"berth-paste"},
    };
    edit.wset(el, EL_ADDFN, L"berth-paste", L"Text between the brackets of a paste", paste);
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        edit.wset(el, EL_BIND, keys[i][0], keys[i][1], NULL);
}

static int start_editing(struct line_reader *r)
{
    if (load_edit(r->reason, sizeof(r->reason)) < 0)
        return -1;
    setlocale(LC_CTYPE, "C.UTF-8"); /* libedit's idea of characters and their widths */
    r->el = edit.init("berth", stdin, stdout, stderr);
    r->history = r->el ? edit.history_winit() : NULL;
    if (!r->history) {
        snprintf(r->reason, sizeof(r->reason), "lines cannot be edited on this terminal");
        return -1;
    }
    HistEventW ev;
    edit.history_w(r->history, &ev, H_SETSIZE, HISTORY_LINES);
    edit.wset(r->el, EL_CLIENTDATA, r);
    edit.wset(r->el, EL_EDITOR, L"emacs");
    edit.wset(r->el, EL_SIGNAL, 0);
    edit.wset(r->el, EL_PROMPT, prompt_of);
    edit.wset(r->el, EL_GETCFN, read_char);
    edit.wset(r->el, EL_HIST, edit.history_w, r->history);
    bind_keys(r->el);
    return 0;
}

struct line_reader *line_open(bool can_edit, bool has_color)
{
    struct line_reader *r = mem_alloc(sizeof(*r));
    r->has_color = has_color;
    buf_init(&r->pending, LIMIT_TEXT_BYTES);
    tcgetattr(STDIN_FILENO, &before);
    if (can_edit && start_editing(r) < 0 && r->el) {
        edit.end(r->el);
        r->el = NULL;
    }
    return r;
}

void line_close(struct line_reader *r)
{
    if (r->el)
        edit.end(r->el);
    if (r->history)
        edit.history_wend(r->history);
    buf_release(&r->pending);
    mem_free(r);
}

const char *line_plain_reason(const struct line_reader *r)
{
    return r->el ? "" : r->reason;
}

static void on_signal(int signo)
{
    switch (signo) {
    case SIGTSTP: must_stop = 1; break;
    case SIGWINCH: must_resize = 1; break;
    case SIGCONT: must_redraw = 1; break;
    }
}

static enum line_result read_edited(struct line_reader *r, struct buf *out)
{
    static const int signals[] = {SIGTSTP, SIGWINCH, SIGCONT};
    struct sigaction sa = {.sa_handler = on_signal}, old[ARRAY_LEN(signals)];
    sigset_t blocked, mask;
    sigemptyset(&blocked);
    for (size_t i = 0; i < ARRAY_LEN(signals); i++) {
        sigaddset(&blocked, signals[i]);
        sigaction(signals[i], &sa, &old[i]);
    }
    sigprocmask(SIG_BLOCK, &blocked, &mask); /* but while waiting for a key */
    is_reading = 1;
    put(PASTE_ON);
    take_window(r); /* it may have changed during an answer */
    int n = 0;
    const wchar_t *text = edit.wgets(r->el, &n);
    put(PASTE_OFF);
    is_reading = 0;
    for (size_t i = 0; i < ARRAY_LEN(signals); i++)
        sigaction(signals[i], &old[i], NULL);
    sigprocmask(SIG_SETMASK, &mask, NULL);
    if (r->is_interrupted) {
        edit.wset(r->el, EL_PREP_TERM, 0);
        put("\n");
        return LINE_INTERRUPTED;
    }
    if (!text || n <= 0) {
        edit.wset(r->el, EL_PREP_TERM, 0);
        put("\n");
        return LINE_END;
    }
    for (int i = 0; i < n && text[i]; i++) {
        char bytes[UTF8_MAX_BYTES];
        if (i == n - 1 && text[i] == L'\n')
            break;
        buf_append(out, bytes, utf8_put((uint32_t)text[i], bytes));
    }
    return LINE_TEXT;
}

/* Plain prompts go to standard error: standard output may be a file. */
static void tell(const char *s)
{
    ssize_t done = write(STDERR_FILENO, s, strlen(s));
    (void)done;
}

static enum line_result read_plain(struct line_reader *r, const char *prompt, struct buf *out)
{
    char piece[4096];
    tell(prompt);
    for (;;) {
        const char *nl = r->pending.len ? memchr(r->pending.data, '\n', r->pending.len) : NULL;
        if (nl) {
            size_t n = (size_t)(nl - r->pending.data);
            buf_append(out, r->pending.data, n);
            buf_consume(&r->pending, n + 1);
            return LINE_TEXT;
        }
        struct pollfd p[] = {{.fd = STDIN_FILENO, .events = POLLIN},
                             {.fd = interrupt_fd(), .events = POLLIN}};
        if (poll(p, ARRAY_LEN(p), -1) < 0 && errno != EINTR)
            return LINE_END;
        if (interrupt_take()) {
            buf_clear(&r->pending);
            tell("\n");
            return LINE_INTERRUPTED;
        }
        if (!p[0].revents)
            continue;
        ssize_t n = read(STDIN_FILENO, piece, sizeof(piece));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0 || buf_append(&r->pending, piece, (size_t)n) < 0) {
            tell("\n");
            return LINE_END;
        }
    }
}

enum line_result line_read(struct line_reader *r, const char *prompt, const char *hint,
                           struct buf *out, bool *ret_had_text)
{
    wchar_t wide[16];
    size_t n = MIN_OF(strlen(prompt), ARRAY_LEN(wide) - 1);
    for (size_t i = 0; i < n; i++)
        wide[i] = (unsigned char)prompt[i];
    wide[n] = L'\0';
    r->prompt = wide;
    r->hint = hint;
    r->is_hinted = r->is_interrupted = r->had_text = false;
    buf_clear(out);
    fflush(stdout);
    fflush(stderr);
    interrupt_take(); /* an old one means nothing here */
    enum line_result rc = r->el ? read_edited(r, out) : read_plain(r, prompt, out);
    *ret_had_text = r->had_text;
    r->prompt = L"";
    return rc;
}

void line_remember(struct line_reader *r, const char *text)
{
    if (!r->history)
        return;
    struct err err = ERR_INIT;
    size_t n = strlen(text), k = 0;
    wchar_t *wide = mem_try_alloc(n + 1, sizeof(wchar_t), &err);
    for (size_t i = 0, len; wide && i < n; i += len) {
        uint32_t cp;
        utf8_next(text + i, n - i, &cp, &len);
        wide[k++] = (wchar_t)cp;
    }
    if (wide) {
        HistEventW ev;
        wide[k] = L'\0';
        edit.history_w(r->history, &ev, H_ENTER, wide);
    }
    mem_free(wide);
}
