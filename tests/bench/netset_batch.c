// SPDX-License-Identifier: GPL-2.0-only
/* The yardstick of `make bench BENCH=netset`: parse a list of IPv4 hosts or CIDRs as fast
 * as plain C does, and put the keys into a BPF hash or LPM trie by batches.
 *
 * Usage: netset_batch hash|lpm FILE. Prints the count and the milliseconds of
 * parsing, creating the map, and inserting.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <bpf/bpf.h>

enum batch_limit { BATCH = 65536 };

struct lpm_key {
	uint32_t prefix_bits;
	uint32_t address;
};

/* What a file holds. Host keys are the addresses alone. */
struct list {
	struct lpm_key *keys;
	uint32_t *hosts;
	uint32_t count;
};

static void fail(const char *what)
{
	fprintf(stderr, "netset_batch: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double now_ms(void)
{
	struct timespec at;

	clock_gettime(CLOCK_MONOTONIC, &at);
	return at.tv_sec * 1e3 + at.tv_nsec / 1e6;
}

static const char *number(const char *at, const char *end, uint32_t *value)
{
	*value = 0;
	while (at < end && *at >= '0' && *at <= '9')
		*value = *value * 10 + (*at++ - '0');
	return at;
}

/* Read one line; return where the next begins. */
static const char *read_line(const char *at, const char *end,
			     struct lpm_key *key)
{
	uint32_t address = 0, octet;

	for (int i = 0; i < 4; i++) {
		at = number(at, end, &octet);
		address = address << 8 | octet;
		if (i < 3)
			at++;
	}
	key->prefix_bits = 32;
	if (at < end && *at == '/')
		at = number(at + 1, end, &key->prefix_bits);
	key->address = htonl(address);
	while (at < end && *at++ != '\n')
		;
	return at;
}

static struct list read_list(const char *path)
{
	struct list list = {};
	const char *text, *at, *end;
	struct stat info;
	int fd = open(path, O_RDONLY);

	if (fd < 0 || fstat(fd, &info))
		fail(path);
	text = mmap(NULL, info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (text == MAP_FAILED)
		fail(path);
	/* The shortest line is `1.1.1.1` and its newline. */
	list.keys = calloc(info.st_size / 8 + 1, sizeof(*list.keys));
	list.hosts = calloc(info.st_size / 8 + 1, sizeof(*list.hosts));
	if (!list.keys || !list.hosts)
		fail("memory");
	end = text + info.st_size;
	for (at = text; at < end; list.count++) {
		at = read_line(at, end, &list.keys[list.count]);
		list.hosts[list.count] = list.keys[list.count].address;
	}
	close(fd);
	return list;
}

static int make_map(int is_lpm, uint32_t count)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts,
		    .map_flags = is_lpm ? BPF_F_NO_PREALLOC : 0);
	int fd = bpf_map_create(is_lpm ? BPF_MAP_TYPE_LPM_TRIE
				       : BPF_MAP_TYPE_HASH,
				"netset_batch", is_lpm ? 8 : 4, 4, count,
				&opts);

	if (fd < 0)
		fail("create the map");
	return fd;
}

static void insert(int fd, const char *keys, size_t key_bytes, uint32_t count)
{
	uint32_t *values = calloc(BATCH, sizeof(*values));

	if (!values)
		fail("memory");
	for (uint32_t i = 0; i < BATCH; i++)
		values[i] = 1;
	for (uint32_t begin = 0; begin < count; begin += BATCH) {
		uint32_t part = count - begin < BATCH ? count - begin : BATCH;

		if (bpf_map_update_batch(fd, keys + begin * key_bytes, values,
					 &part, NULL))
			fail("insert a batch");
	}
	free(values);
}

int main(int argc, char **argv)
{
	int is_lpm = argc == 3 && !strcmp(argv[1], "lpm"), fd;
	double began = now_ms(), parsed, created, inserted;
	struct list list;

	if (argc != 3) {
		fprintf(stderr, "usage: netset_batch hash|lpm FILE\n");
		return 2;
	}
	list = read_list(argv[2]);
	parsed = now_ms();
	fd = make_map(is_lpm, list.count);
	created = now_ms();
	if (is_lpm)
		insert(fd, (char *)list.keys, sizeof(*list.keys), list.count);
	else
		insert(fd, (char *)list.hosts, sizeof(*list.hosts), list.count);
	inserted = now_ms();
	printf("%u %.3f %.3f %.3f\n", list.count, parsed - began,
	       created - parsed, inserted - created);
	return 0;
}
