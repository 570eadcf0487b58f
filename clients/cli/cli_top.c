/* jumun top: STATUS again and again. On a terminal a picture that is redrawn in place, elsewhere a
 * line for each look. */
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "clients/cli/cli.h"
#include "clients/cli/output.h"
#include "clients/cli/text.h"

enum { TOP_ENDPOINT_BYTES = 256 };

static volatile sig_atomic_t top_stopped;
static struct termios top_terminal_before;
static bool top_terminal_changed;

static void top_on_signal(int signal_number) {
    (void)signal_number;
    top_stopped = 1;
}

/* Keys arrive at once and are not echoed; the screen is the alternate one, without a cursor. */
static void top_terminal_open(void) {
    struct sigaction action = {.sa_handler = top_on_signal};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    if (isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &top_terminal_before) == 0) {
        struct termios raw = top_terminal_before;
        raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
        top_terminal_changed = tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0;
    }
    fputs("\x1b[?1049h\x1b[?25l", stdout);
    fflush(stdout);
}

static void top_terminal_close(void) {
    fputs("\x1b[?25h\x1b[?1049l", stdout);
    fflush(stdout);
    if (top_terminal_changed) tcsetattr(STDIN_FILENO, TCSANOW, &top_terminal_before);
}

/* Waits for the next look. False when the user wants to leave. */
static bool top_wait(bool keys, int64_t ms) {
    struct pollfd fd = {keys ? STDIN_FILENO : -1, POLLIN, 0};
    uint64_t until = text_mono_ns() + (uint64_t)ms * 1000000u;
    while (!top_stopped) {
        uint64_t now = text_mono_ns();
        if (now >= until) return true;
        char key;
        if (poll(&fd, 1, (int)((until - now) / 1000000u) + 1) <= 0) continue;
        if (read(STDIN_FILENO, &key, 1) != 1) fd.fd = -1;
        else if (key == 'q' || key == 'Q') return false;
    }
    return false;
}

/* Prints as many lines of the picture as the screen has, each to its end, over the last picture. */
static void top_draw(const char *picture) {
    struct winsize size;
    int rows = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 2 ? size.ws_row : 24;
    fputs("\x1b[H\x1b[?7l", stdout);
    for (int row = 1; row < rows && *picture; row++) {
        size_t bytes = strcspn(picture, "\n");
        printf("%.*s\x1b[0m\x1b[K\n", (int)bytes, picture);
        picture += bytes + (picture[bytes] == '\n');
    }
    fputs("\x1b[J\x1b[2mq quits\x1b[0m\x1b[?7h", stdout);
    fflush(stdout);
}

static void top_line(const msgpack_object *now, const msgpack_object *before, double seconds) {
    static const char *const fields[] = {"commands", "events", "refused", "overloaded"};
    uint64_t grown[4] = {0};
    const msgpack_object *shards = value_at(now, "shards"), *earlier = value_at(before, "shards");
    uint64_t waiting = 0, orders = 0;
    for (uint32_t i = 0; i < value_count(shards); i++) {
        const msgpack_object *s = value_item(shards, i);
        for (int f = 0; f < 4; f++) {
            int64_t n = value_int(s, fields[f], 0) -
                        value_int(value_item(earlier, i), fields[f], 0);
            grown[f] += n > 0 ? (uint64_t)n : 0;
        }
        waiting += (uint64_t)value_int(s, "mailbox_commands", 0);
        orders += (uint64_t)value_int(s, "orders_in_memory", 0);
    }
    char time[TEXT_BYTES], p50[TEXT_BYTES], p99[TEXT_BYTES], memory[TEXT_BYTES];
    text_time(time, text_now_ms());
    if (cli_node_waits(now)) {
        printf("%.19s  waits for a cluster\n", time);
        fflush(stdout);
        return;
    }
    printf("%.19s  commands/s %.0f  events/s %.0f  refused/s %.0f  overloaded/s %.0f  "
           "p50 %s  p99 %s  waiting %" PRIu64 "  in memory %" PRIu64 "  process %s\n",
           time, (double)grown[0] / seconds, (double)grown[1] / seconds,
           (double)grown[2] / seconds, (double)grown[3] / seconds,
           text_latency(p50, value_number(now, "latency_recent_us.p50", 0) * 1000),
           text_latency(p99, value_number(now, "latency_recent_us.p99", 0) * 1000), waiting, orders,
           text_size(memory, (uint64_t)value_int(now, "memory.process_bytes", 0)));
    fflush(stdout);
}

/* One look after `before`. False when there was nothing to be drawn. */
static bool top_show(struct cli *cli, bool terminal, const struct cli_answer *now,
                     const struct cli_answer *before, int64_t interval_ms) {
    if (cli->json) {
        cli_print_json(value_to_json(now->value));
        fflush(stdout);
        return true;
    }
    if (!terminal) {
        if (before->value) top_line(now->value, before->value, (double)interval_ms / 1000);
        return before->value != NULL;
    }
    char *picture = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&picture, &bytes);
    if (!out) return false;
    cli_show_status(cli, now->value, before->value, (double)interval_ms / 1000, out);
    fclose(out);
    top_draw(picture);
    free(picture);
    return true;
}

/* Of several nodes the first that answers is asked again for as long as it answers. When it is
 * another one than the last time, that is told and *before forgotten: its counters are others. */
static void top_name_node(const struct cli *cli, bool terminal, const msgpack_object *status,
                          struct cli_answer *before) {
    int64_t node = value_int(status, "node_id", 0);
    bool first = !before->value;
    if (!first && value_int(before->value, "node_id", 0) == node) return;
    char endpoint[TOP_ENDPOINT_BYTES];
    if (!first) {
        cli_answer_free(before);
        before->value = NULL;
    }
    /* The picture's heading has it; with one address only a change is news. */
    if (terminal || cli->json || (first && !strchr(cli->endpoint, ','))) return;
    printf("node %" PRId64 ", %s%s\n", node,
           value_text(status, "endpoint", endpoint, sizeof endpoint),
           first ? ", answers first" : ": the one before does not answer any more");
}

int cli_top(struct cli *cli) {
    jumun_command c = {.kind = JUMUN_NODE_STATUS};
    int64_t interval = 1000, count = INT64_MAX, looks = 0;
    if (!cli_span_option(cli, "interval", &interval) || !cli_int_option(cli, "count", &count)) {
        return CLI_USAGE;
    }
    if (interval < 50 || interval > 3600000) {
        return cli_usage(cli, "--interval: must lie between 50ms and 1h");
    }
    if (count < 1) return cli_usage(cli, "--count: must be at least 1");
    bool terminal = isatty(STDOUT_FILENO) && !cli->json, opened = false, encoded;
    struct cli_answer now, before = {0};
    int status;
    while ((status = cli_read(cli, &c, &now, &encoded)) == CLI_DONE) {
        top_name_node(cli, terminal, now.value, &before);
        if (terminal && !opened) top_terminal_open(), opened = true;
        if (top_show(cli, terminal, &now, &before, interval)) looks++;
        if (before.value) cli_answer_free(&before);
        before = now;
        /* The value lies inside the answer that was just moved. */
        before.value = &before.unpacked.data;
        if (looks >= count || output_reader_gone() ||
            !top_wait(terminal && isatty(STDIN_FILENO), interval)) {
            break;
        }
    }
    if (before.value) cli_answer_free(&before);
    if (opened) top_terminal_close();
    return status == CLI_DONE && output_reader_gone() ? OUTPUT_READER_GONE : status;
}
