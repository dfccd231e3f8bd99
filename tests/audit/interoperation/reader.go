// Reads a published log with golang.org/x/mod/sumdb, the libraries of Go's checksum database, and checks it:
//
//	reader FOLDER VKEY [RECEIPT...]
//
// (1) the checkpoint opens under the key;
// (2) the entry bundles hold exactly as many entries as it says, and their tree has its root;
// (3) every tile of every level holds the hashes that Go computes from the entries, at the paths of C2SP tlog-tiles;
// (4) proofs that Go makes from the tiles' hashes hold: of entries, and of smaller trees;
// (5) every receipt holds.
//
// Tiles are compared with hashes that were computed from the entries; nothing relies on TileHashReader to authenticate
// them, which releases of x/mod before 0.40 don't do throughout. Prints counts as JSON; the first failure ends with status 1.
package main

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	height    = 8
	width     = 1 << height
	proofsMax = 500
)

type head struct {
	origin string
	size   int64
	root   tlog.Hash
}

type log struct {
	folder string
	head   head
	stored []tlog.Hash
	counts map[string]int64
}

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "reader FOLDER VKEY [RECEIPT...]")
		os.Exit(2)
	}
	counts, err := check(os.Args[1], os.Args[2], os.Args[3:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "refused:", err)
		os.Exit(1)
	}
	json.NewEncoder(os.Stdout).Encode(counts)
}

func check(folder, vkey string, receipts []string) (map[string]int64, error) {
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(filepath.Join(folder, "checkpoint"))
	if err != nil {
		return nil, err
	}
	newest, err := openHead(data, verifier) // (1)
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	l := &log{folder: folder, head: newest, counts: map[string]int64{"size": newest.size}}
	for _, step := range []func() error{l.readEntries, l.checkTiles, l.checkProofs} { // (2) (3) (4)
		if err := step(); err != nil {
			return nil, err
		}
	}
	for _, path := range receipts { // (5)
		if err := checkReceipt(path, verifier); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		l.counts["receipts"]++
	}
	return l.counts, nil
}

func openHead(data []byte, verifier note.Verifier) (head, error) {
	opened, err := note.Open(data, note.VerifierList(verifier))
	if err != nil {
		return head{}, err
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) < 4 {
		return head{}, errors.New("fewer than three lines")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return head{}, err
	}
	root, err := tlog.ParseHash(lines[2])
	if err != nil {
		return head{}, err
	}
	return head{lines[0], size, root}, nil
}

// ReadHashes gives hashes that were computed from the entries.
func (l *log) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	found := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		if index < 0 || index >= int64(len(l.stored)) {
			return nil, fmt.Errorf("no hash %d", index)
		}
		found[i] = l.stored[index]
	}
	return found, nil
}

func (l *log) readEntries() error {
	for index := int64(0); index < l.head.size; {
		n := index / width
		w := min64(width, l.head.size-index)
		name := tilePath("entries", n, w)
		data, err := os.ReadFile(filepath.Join(l.folder, name))
		if err != nil {
			return err
		}
		for i := int64(0); i < w; i++ {
			if len(data) < 2 || len(data) < 2+int(binary.BigEndian.Uint16(data)) {
				return fmt.Errorf("%s: ends within entry %d", name, index)
			}
			length := int(binary.BigEndian.Uint16(data))
			hashes, err := tlog.StoredHashes(index, data[2:2+length], l)
			if err != nil {
				return err
			}
			l.stored = append(l.stored, hashes...)
			data = data[2+length:]
			index++
		}
		if len(data) != 0 {
			return fmt.Errorf("%s: %d bytes after its last entry", name, len(data))
		}
		l.counts["bundles"]++
	}
	l.counts["entries"] = l.head.size
	if l.head.size == 0 { // Go has no hash of the empty tree before x/mod 0.21
		return nil
	}
	root, err := tlog.TreeHash(l.head.size, l)
	if err != nil {
		return err
	}
	if root != l.head.root {
		return fmt.Errorf("the entries have the root %v, the checkpoint says %v", root, l.head.root)
	}
	return nil
}

func (l *log) checkTiles() error {
	for level, have := 0, l.head.size; have > 0; level, have = level+1, have/width {
		for n := int64(0); n*width < have; n++ {
			w := min64(width, have-n*width)
			name := tilePath(strconv.Itoa(level), n, w)
			found, err := os.ReadFile(filepath.Join(l.folder, name))
			if err != nil {
				return err
			}
			want, err := tlog.ReadTileData(tlog.Tile{H: height, L: level, N: n, W: int(w)}, l)
			if err != nil {
				return err
			}
			if !bytes.Equal(found, want) {
				return fmt.Errorf("%s: not the hashes of the entries below", name)
			}
			l.counts["tiles"]++
		}
	}
	return nil
}

// fromTiles gives hashes as whoever has the tiles alone computes them.
type fromTiles struct{ log *log }

func (r fromTiles) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	found := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		tile := tlog.TileForIndex(height, index)
		have := r.log.head.size >> (uint(height) * uint(tile.L))
		tile.W = int(min64(width, have-tile.N*width))
		data, err := os.ReadFile(filepath.Join(r.log.folder, tilePath(strconv.Itoa(tile.L), tile.N, int64(tile.W))))
		if err != nil {
			return nil, err
		}
		if found[i], err = tlog.HashFromTile(tile, data, index); err != nil {
			return nil, err
		}
	}
	return found, nil
}

func (l *log) checkProofs() error {
	size, tiles := l.head.size, fromTiles{l}
	step := size/proofsMax + 1
	for n := int64(0); n < size; n += step {
		proof, err := tlog.ProveRecord(size, n, tiles)
		if err != nil {
			return err
		}
		if err := tlog.CheckRecord(proof, size, l.head.root, n, l.stored[tlog.StoredHashIndex(0, n)]); err != nil {
			return fmt.Errorf("entry %d: %w", n, err)
		}
		old, err := tlog.TreeHash(n+1, l)
		if err != nil {
			return err
		}
		growth, err := tlog.ProveTree(size, n+1, tiles)
		if err != nil {
			return err
		}
		if err := tlog.CheckTree(growth, size, l.head.root, n+1, old); err != nil {
			return fmt.Errorf("tree of %d: %w", n+1, err)
		}
		l.counts["proofs"] += 2
	}
	return nil
}

// checkReceipt checks a c2sp.org/tlog-proof@v1 whose extra data is the entry or its leaf hash.
func checkReceipt(path string, verifier note.Verifier) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	top, checkpoint, found := strings.Cut(string(data), "\n\n")
	lines := strings.Split(top, "\n")
	if !found || len(lines) < 3 || lines[0] != "c2sp.org/tlog-proof@v1" {
		return errors.New("expected a c2sp.org/tlog-proof@v1")
	}
	extra, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(lines[1], "extra "))
	if err != nil {
		return err
	}
	leaf := tlog.RecordHash(extra)
	if len(extra) == tlog.HashSize {
		copy(leaf[:], extra)
	}
	index, err := strconv.ParseInt(strings.TrimPrefix(lines[2], "index "), 10, 64)
	if err != nil {
		return err
	}
	var proof tlog.RecordProof
	for _, line := range lines[3:] {
		hash, err := tlog.ParseHash(line)
		if err != nil {
			return err
		}
		proof = append(proof, hash)
	}
	newest, err := openHead([]byte(checkpoint), verifier)
	if err != nil {
		return err
	}
	return tlog.CheckRecord(proof, newest.size, newest.root, index, leaf)
}

// tilePath has another order than tlog.Tile.Path, which is of before C2SP.
func tilePath(level string, n, w int64) string {
	name := fmt.Sprintf("%03d", n%1000)
	for n /= 1000; n > 0; n /= 1000 {
		name = fmt.Sprintf("x%03d/%s", n%1000, name)
	}
	if w < width {
		name += fmt.Sprintf(".p/%d", w)
	}
	return "tile/" + level + "/" + name
}

func min64(a, b int64) int64 {
	if a < b {
		return a
	}
	return b
}
