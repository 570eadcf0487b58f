#include "clients/cli/progress.h"

#include <langinfo.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "clients/cli/text.h"

enum { PROGRESS_BAR_COLUMNS = 28, PROGRESS_LINE_BYTES = 512 };

void progress_start(struct progress *p, FILE *out, const char *label, const char *unit,
                    bool color) {
    memset(p, 0, sizeof *p);
    p->out = out;
    p->label = label;
    p->unit = unit;
    p->terminal = out && isatty(fileno(out));
    p->color = color;
    p->blocks = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
    p->started_ns = p->rate_ns = text_mono_ns();
    p->interval_ns = p->terminal ? 100000000u : 3000000000u;
    p->drawn_ns = p->terminal ? 0 : p->started_ns;
}

/* The bar in eighths of a column where the terminal has the glyphs. */
static void progress_bar(const struct progress *p, double share, char *out, size_t bytes) {
    static const char *const eighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
    double filled = share * PROGRESS_BAR_COLUMNS;
    size_t used = 0;
    out[0] = 0;
    for (int c = 0; c < PROGRESS_BAR_COLUMNS && used + 8 < bytes; c++) {
        const char *cell;
        double rest = filled - c;
        if (!p->blocks) cell = rest >= 0.5 ? "#" : ".";
        else if (rest >= 1) cell = "█";
        else if (rest >= 0.125) cell = eighths[(int)(rest * 8)];
        else cell = p->color ? " " : "·";
        used += (size_t)snprintf(out + used, bytes - used, "%s", cell);
    }
}

static void progress_measure(struct progress *p, uint64_t now, uint64_t done) {
    double seconds = (double)(now - p->rate_ns) / 1e9;
    if (seconds < 0.2) return;
    double rate = (double)(done - p->rate_done) / seconds;
    p->rate = p->rate > 0 ? 0.7 * p->rate + 0.3 * rate : rate;
    p->rate_done = done;
    p->rate_ns = now;
}

static int progress_columns(const struct progress *p) {
    struct winsize size;
    if (ioctl(fileno(p->out), TIOCGWINSZ, &size) != 0 || size.ws_col < 20) return 100;
    return size.ws_col;
}

static void progress_draw(struct progress *p, uint64_t now, double share, uint64_t done,
                          const char *note, bool last) {
    char count[TEXT_BYTES], rate[TEXT_BYTES], span[TEXT_BYTES], bar[256];
    char head[PROGRESS_LINE_BYTES] = "", tail[PROGRESS_LINE_BYTES], left[TEXT_BYTES + 16] = "";
    double seconds = (double)(now - p->started_ns) / 1e9;
    double per_second = last && seconds > 0 ? (double)done / seconds : p->rate;
    if (share >= 0) {
        progress_bar(p, share, bar, sizeof bar);
        snprintf(head, sizeof head, p->color ? "\x1b[36m%s\x1b[0m %3.0f%%  " : "%s %3.0f%%  ", bar,
                 share * 100);
    }
    if (last) {
        snprintf(left, sizeof left, "in %.40s", text_span(span, (int64_t)(seconds * 1000)));
    } else if (share > 0.005) {
        snprintf(left, sizeof left, "%.40s left",
                 text_span(span, (int64_t)(seconds * (1 - share) / share) * 1000 + 1000));
    }
    int unit_bytes = (int)strlen(p->unit) - (done == 1);
    snprintf(tail, sizeof tail, "%s %.*s  %s/s  %s%s%s", text_count(count, done), unit_bytes,
             p->unit, text_count(rate, (uint64_t)per_second), left, *note ? "  " : "", note);
    if (!p->terminal) {
        fprintf(p->out, "%s  %s%s\n", p->label, share >= 0 ? head : "", tail);
    } else {
        /* Cut before the edge: a wrapped line could not be redrawn. */
        int room = progress_columns(p) - 1 - text_width(p->label) - 2 -
                   (share >= 0 ? PROGRESS_BAR_COLUMNS + 7 : 0);
        if (room < 0) room = 0;
        fprintf(p->out, "\r%s  %s%.*s\x1b[K%s", p->label, head, room, tail, last ? "\n" : "");
    }
    fflush(p->out);
    p->drawn_ns = now;
}

void progress_update(struct progress *p, double share, uint64_t done, const char *note) {
    if (!p->out) return;
    uint64_t now = text_mono_ns();
    progress_measure(p, now, done);
    if (now - p->drawn_ns >= p->interval_ns) progress_draw(p, now, share, done, note, false);
}

void progress_end(struct progress *p, double share, uint64_t done, const char *note) {
    if (p->out) progress_draw(p, text_mono_ns(), share, done, note, true);
}
