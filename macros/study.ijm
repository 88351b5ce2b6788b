// study.ijm: which slices of a stack to label, and how many.
//
// The argument is a folder that holds
//   stack.tif   the raw stack, its voxel size set (Image > Properties)
//   truth.tif   its segmentation, of all slices or of some: 0 unlabelled, 1 pore, 2 solid
// Table, figures and report.html are written to its folder "study". Options may follow the folder
// after a "|", as the command takes them, for example: counts=5,10,20 repeats=1 compare=paper
// A study takes hours on a large stack; one that was stopped goes on where it was.
//
// Run it without a display:   fiji-poreseg macro study.ijm FOLDER

arguments = split(getArgument(), "|");
folder = arguments[0];
if (!endsWith(folder, "/")) folder = folder + "/";
options = "";
if (arguments.length > 1) options = " " + arguments[1];
setBatchMode(true);

// 1. Which slices the stack itself asks for: no label is needed for that.
open(folder + "stack.tif");
run("PoreSeg Select Slices", "strategy=diverse count=5");
chosen = "" + getResult("index", 0);
for (row = 1; row < nResults; row++) chosen = chosen + "," + getResult("index", row);
print("Five slices that show most of the stack: " + chosen);

// 2. The trials: a forest and a ResUNet for each way to choose slices, each number and repeat.
run("PoreSeg Study", "truth=[" + folder + "truth.tif] output=[" + folder + "study] resume" + options);

// 3. The best way to choose, by the accuracy on slices that no model was trained on.
headings = split(String.getResultsHeadings, "\t");
for (row = 0; row < nResults; row++) {
	if (getResultString("index", row) == "mean" && getResultString("score", row) == "accuracy") {
		best = "";
		highest = 0;
		for (i = 0; i < headings.length; i++) {
			// The columns of the trials begin with a number.
			if (isNaN(parseInt(substring(headings[i] + " ", 0, 1)))) continue;
			value = getResult(headings[i], row);
			if (value > highest) {
				highest = value;
				best = headings[i];
			}
		}
		print("Best for " + getResultString("model", row) + ": " + best + ", accuracy " + d2s(highest, 4));
	}
}
print("Done: " + folder + "study/report.html");
