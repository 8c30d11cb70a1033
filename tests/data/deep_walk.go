// Walks, makes, renames, reads and starts programs in the folder given, from many goroutines.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
)

func check(err error) {
	if err != nil {
		fmt.Println("wrong:", err)
	}
}

func turn(name string) {
	for k := 0; k < 20; k++ {
		check(os.WriteFile(name, []byte(name), 0644))
		b, err := os.ReadFile(name)
		check(err)
		if string(b) != name {
			fmt.Println("wrong bytes", name, string(b))
		}
		check(os.Rename(name, name+".new"))
		check(os.Remove(name + ".new"))
	}
}

func main() {
	root := os.Args[1]
	filepath.WalkDir(root, func(p string, d os.DirEntry, err error) error {
		check(err)
		info, err := d.Info()
		check(err)
		if !d.IsDir() {
			fmt.Println(p[len(root):], info.Size(), info.Mode())
		}
		return nil
	})
	check(os.Chdir(root))
	check(os.WriteFile("from go", []byte("#!/bin/sh\necho from go $1; ls\n"), 0755))
	var all sync.WaitGroup
	for i := 0; i < 16; i++ {
		all.Add(1)
		go func(i int) {
			defer all.Done()
			turn(fmt.Sprintf("t%d", i))
		}(i)
	}
	all.Wait()
	out, err := exec.Command("./from go", "1").CombinedOutput()
	fmt.Print(string(out))
	check(err)
	check(os.Remove("from go"))
}
